"""Task versions: from a git tag to a signed manifest and its blobs."""
