# Functions that move GitLab's data into managed databases, and back.

# move_databases VALUE…: nothing moves yet.
move_databases() { [ -z "$1" ] || say "databases: $1"; }
