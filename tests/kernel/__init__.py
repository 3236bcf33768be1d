"""The real node and real peers in network namespaces behind nftables NATs."""
