"""Components of this project whose arguments any language of Pulumi can write."""
