# What is shipped: one static binary, run by nobody in particular, and nothing else. How to build it: docs/container.md.

ARG RUST_IMAGE=docker.io/library/rust:1.95-slim-bookworm

# Compiles on the builder's own platform, for whichever is asked for.
FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS build
ARG TARGETARCH
WORKDIR /src

# The C compiler and the static C library: the image's own, or a cross compiler's.
RUN case "${TARGETARCH:=$(dpkg --print-architecture)}" in \
      amd64) triple=x86_64-linux-gnu ;; \
      arm64) triple=aarch64-linux-gnu ;; \
      *) echo "no target for the architecture $TARGETARCH" >&2; exit 1 ;; \
    esac; \
    if [ "$TARGETARCH" != "$(dpkg --print-architecture)" ]; then \
      apt-get update && apt-get install --yes --no-install-recommends "gcc-$(echo $triple | tr _ -)" "libc6-dev-$TARGETARCH-cross" \
        && rm -rf /var/lib/apt/lists/* \
        && rustup target add "$(echo $triple | sed s/-linux/-unknown-linux/)"; \
    fi; \
    echo "$triple" > /triple

COPY . .

# The same sources give the same bytes: dependencies as locked, and no path of this machine in the binary.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    set -eu; \
    triple=$(cat /triple); \
    target=$(echo "$triple" | sed s/-linux/-unknown-linux/); \
    variable=$(echo "$target" | tr a-z- A-Z_); \
    export "CARGO_TARGET_${variable}_LINKER=$triple-gcc" "CC_$(echo "$target" | tr - _)=$triple-gcc"; \
    export RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=/src=/pinstream --remap-path-prefix=${CARGO_HOME:-/usr/local/cargo}=/cargo"; \
    export CFLAGS="-ffile-prefix-map=/src=/pinstream -ffile-prefix-map=${CARGO_HOME:-/usr/local/cargo}=/cargo"; \
    cargo build --locked --profile dist --target "$target" --bin pinstream; \
    mkdir /out; \
    cp "target/$target/dist/pinstream" /out/pinstream; \
    touch --date=@0 /out/pinstream

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="pinstream" \
      org.opencontainers.image.description="Image streams for any Kubernetes: short image names in, pinned digests out" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /out/pinstream /pinstream
USER 65532:65532
EXPOSE 8443 9090
ENTRYPOINT ["/pinstream"]
