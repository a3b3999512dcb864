FROM --platform=$BUILDPLATFORM debian:13-slim AS build
ARG TARGETARCH
ARG VERSION
RUN --mount=type=secret,id=LICENCE test "$(cat /run/secrets/LICENCE)" = example-of-a-value
RUN echo "$VERSION for $TARGETARCH" >/version

FROM scratch
COPY --from=build /version /version
