"""Small Pulumi programs that the tests of the plugins run with the real engine."""
