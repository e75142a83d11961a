"""What keeps the store tidy: owners, namespaces, service accounts and their tokens, roles, quotas, events."""
