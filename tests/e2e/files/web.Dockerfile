FROM debian:13-slim AS runtime
COPY web/index /srv/index

# Not the image: this stage cannot be built.
FROM runtime
RUN false
