"""What keeps the store tidy: owners, namespaces, service accounts, events."""
