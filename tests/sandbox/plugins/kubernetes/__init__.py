"""Resources of the provider `kubernetes`: objects of a cluster, declared as the API has them."""
