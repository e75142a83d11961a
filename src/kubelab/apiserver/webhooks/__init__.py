"""Servers of users that this server asks over HTTPS: admission webhooks, conversion webhooks.

client    who is asked, and what went wrong, in the words of Go programs
exchange  one HTTP exchange over TLS, directly or through a node into the pod network
"""
