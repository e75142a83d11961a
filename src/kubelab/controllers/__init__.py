"""The controllers that ordinary manifests need; they run in the API server's process over its store.

Entry: `manager.ControllerManager(store, options)`; `await manager.run()`. One file per controller, in rooms by what it
looks after: `workloads`, `batch`, `scheduling`, `nodes`, `network`, `storage`, `upkeep`. What all share lies here:
`controller` (the loop), `queue`, `index` (pods by owner and by node), `objects` (reading objects), `events`.
"""
