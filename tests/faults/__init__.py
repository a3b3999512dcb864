"""The fault matrix: every kind of call that an update makes, and every fault. It has a tier of its own."""
