"""Admission webhooks of users.

rules           which writes a configuration names: resources, operations, scope, selectors
configurations  the webhooks of all configurations, as they are now
reviews         what a webhook is sent, and what its answer means
dispatch        mutating webhooks one after the other, validating ones all at once
"""
