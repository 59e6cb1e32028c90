"""What every route shares: reading requests, answering, authentication, the map from error to status."""
