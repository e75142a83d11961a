"""Flows: what the kernel tells of packets, kept as columns, filtered, decoded for those who ask.

ring -> collector -> store -> rows -> filters -> flows -> query -> observer; `server.HubbleServer` puts it together.
"""
