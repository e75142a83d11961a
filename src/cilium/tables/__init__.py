"""The schema of the agent: the rows that more than one feature reads.

One module per subject. Rows are frozen `msgspec.Struct`s; addresses are `ipaddress` objects from the edge on.
A row that only one feature reads stays in that feature's `rows.py`.
"""
