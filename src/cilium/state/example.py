"""A guided tour of the state engine: `python -m cilium.state.example`.

The world is a directory; the things in it are greeting files. People live in houses (two intent tables), who is to be
greeted how is computed (a derivation), and a reconciler keeps the files so. Then somebody breaks the directory.

Read `main` from top to bottom; what it prints is what happens.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from cilium.state.changes import RowChanges
from cilium.state.derivation import Derivation, View
from cilium.state.dump import dump
from cilium.state.outcomes import each
from cilium.state.reconciler import Errors, Reconciler
from cilium.state.table import Table, Writer

MARK = ".greeting"


class Person(msgspec.Struct, frozen=True):
    name: str
    house: str


class House(msgspec.Struct, frozen=True):
    name: str
    greeting: str


class Greeting(msgspec.Struct, frozen=True):
    """Mirrors one file of the world; the key is the file's name."""

    name: str
    text: str


def greetings(view: View) -> dict[str, RowChanges[str, Greeting]]:
    """The compute function: a person's greeting follows the person and the house; pure, so it needs no test double."""
    people, houses = view.snapshots["people"], view.snapshots["houses"]
    names = {change.key for change in view.changes["people"]}
    for change in view.changes["houses"]:
        names.update(person.name for person in people.by("house", change.key))
    upserts, deletes = [], []
    for name in sorted(names):
        person = people.get(name)
        house = houses.get(person.house) if person else None
        if person and house:
            upserts.append(Greeting(name, f"{house.greeting}, {name}!"))
        else:
            deletes.append(name)
    return {"greetings": RowChanges(upserts=upserts, deletes=deletes)}


class GreetingFiles:
    """The operations: idempotent, one error per row, and prune touches only what bears our mark."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def update(self, rows: Sequence[Greeting]) -> Errors:
        return each(rows, key=lambda row: row.name, call=lambda row: self._path(row.name).write_text(row.text))

    def delete(self, rows: Sequence[Greeting]) -> Errors:
        return each(rows, key=lambda row: row.name, call=lambda row: self._path(row.name).unlink(missing_ok=True))

    def prune(self, rows: Sequence[Greeting]) -> None:
        wanted = {self._path(row.name) for row in rows}
        for path in self._directory.glob(f"*{MARK}"):
            if path not in wanted:
                path.unlink()

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}{MARK}"


async def tour(directory: Path) -> None:
    """Every table, the derivation and the reconciler are made here, in the order of the data."""
    people: Table[str, Person] = Table("people", key=lambda row: row.name, indexes={"house": lambda row: (row.house,)})
    houses: Table[str, House] = Table("houses", key=lambda row: row.name)
    desired: Table[str, Greeting] = Table("greetings", key=lambda row: row.name)
    people_writer, houses_writer = people.writer("the registry"), houses.writer("the registry")
    people_listed, houses_listed = people_writer.initializer("list"), houses_writer.initializer("list")
    derivation = Derivation(
        "greetings",
        inputs={"people": people, "houses": houses},
        outputs={"greetings": desired.writer("derivation")},
        compute=greetings,
    )
    reconciler = Reconciler(
        "files",
        table=desired,
        operations=GreetingFiles(directory),
        retry_min=0.02,
        refresh=0.2,
    )

    def show(what: str) -> None:
        files = {path.name: path.read_text() for path in sorted(directory.glob("*")) if path.is_file()}
        print(f"{what}\n    files:  {files}")

    (directory / "stranger.txt").write_text("not ours")
    (directory / f"zoe{MARK}").write_text("left over by an earlier run")
    show("Before the start: a file that is not ours, and one of ours that an earlier run left.")

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(derivation.run()), tasks.create_task(reconciler.run())]

        houses_writer.commit([House("north", "Moin"), House("south", "Servus")])
        people_writer.commit([Person("ann", "north"), Person("bob", "south")])
        await until((directory / f"bob{MARK}").exists)
        show("People and houses are known, but not yet all of them: files appear, none disappears.")

        people_listed()
        houses_listed()
        await until(lambda: reconciler.pruned)
        show("Both sources have said that they are complete: what nobody wants was pruned, the stranger stayed.")

        houses_writer.upsert(House("north", "Ahoi"))
        await until(lambda: (directory / f"ann{MARK}").read_text().startswith("Ahoi"))
        show("One house changed its greeting; only the file that depends on it was written.")

        await trouble(directory, people_writer, reconciler, show)

        people_writer.delete("ann")
        await until(lambda: not (directory / f"ann{MARK}").exists())
        show("ann moved away.")
        for task in running:
            task.cancel()


async def trouble(
    directory: Path, people: Writer[str, Person], reconciler: Reconciler[str, Greeting], show: Callable[[str], None]
) -> None:
    """What goes wrong in the world becomes a status, and heals."""
    (directory / f"cat{MARK}").mkdir()
    people.upsert(Person("cat", "south"))
    await until(lambda: bool(reconciler.errors()))
    print(f"A directory stands where a file should be:\n    status: {dump(reconciler.status)}")
    (directory / f"cat{MARK}").rmdir()
    await until(lambda: not reconciler.errors())
    show("The directory is gone, the next attempt succeeded.")

    (directory / f"bob{MARK}").unlink()
    await until((directory / f"bob{MARK}").exists)
    show("Somebody deleted bob's file behind our back; the refresh healed it.")


async def until(condition: Callable[[], bool]) -> None:
    """A visitor of a directory has no change stream: it looks again and again, 10 s at most."""
    async with asyncio.timeout(10.0):
        while not condition():  # noqa: ASYNC110  # files set no event
            await asyncio.sleep(0.001)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(tour(Path(directory)))


if __name__ == "__main__":
    main()
