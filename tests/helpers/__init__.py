"""What several test modules use: small data sets, bundles, shapes, servers."""
