# What is shipped: one static binary, run by nobody in particular, and nothing else. How to build it: docs/container.md.

ARG RUST_IMAGE=docker.io/library/rust:1.95.0-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082

# Compiles on the builder's own platform, for whichever is asked for.
FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS build
ARG TARGETARCH
WORKDIR /src

# Writes into the binary what it is made of.
RUN cargo install --quiet --locked --root /usr/local cargo-auditable@0.7.7

# The C compiler and the static C library for another architecture; for its own the image has them.
RUN set -eu; \
    case "${TARGETARCH:=$(dpkg --print-architecture)}" in \
      amd64) machine=x86_64; compiler=gcc-x86-64-linux-gnu ;; \
      arm64) machine=aarch64; compiler=gcc-aarch64-linux-gnu ;; \
      *) echo "no target for the architecture $TARGETARCH" >&2; exit 1 ;; \
    esac; \
    echo "$TARGETARCH" > /architecture; \
    if [ "$TARGETARCH" != "$(dpkg --print-architecture)" ]; then \
      apt-get update; \
      apt-get install --yes --no-install-recommends "$compiler" "libc6-dev-$TARGETARCH-cross"; \
      rm -rf /var/lib/apt/lists/*; \
      rustup target add "$machine-unknown-linux-gnu"; \
    fi

COPY . .

RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    release/binary "$(cat /architecture)" /out

# Only the binary. A release names a folder that has it, in place of compiling: --build-context binary=FOLDER.
FROM scratch AS binary
COPY --from=build /out/pinstream /pinstream

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="pinstream" \
      org.opencontainers.image.description="Image streams for any Kubernetes: short image names in, pinned digests out" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=binary /pinstream /pinstream
USER 65532:65532
EXPOSE 8443 9090
ENTRYPOINT ["/pinstream"]
