# One file in an image: the static binary. No shell, no libraries, no package manager.
#
#   docker build --tag conclave .                                   compiles it; the machine needs nothing but Docker
#   docker build --tag conclave --target prebuilt --file Dockerfile FOLDER
#                                                                   takes FOLDER/conclave, which was linked statically before:
#                                                                   nothing is fetched (docs/operate/compose.md)

# Everything but the binary. A volume that is mounted at one of the folders for the first time belongs to the same user.
FROM scratch AS folder
WORKDIR /empty

FROM scratch AS runtime
COPY --from=folder --chown=65532:65532 /empty /var/lib/conclave
COPY --from=folder --chown=65532:65532 /empty /var/log/conclave
# Commands in the container speak to its own node.
ENV CONCLAVE_ADDR=https://127.0.0.1:8200 CONCLAVE_CACERT=/etc/conclave/tls/ca.pem
USER 65532:65532
EXPOSE 8200 8201
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/conclave"]
CMD ["server", "-config=/etc/conclave/conclave.hcl"]

FROM runtime AS prebuilt
COPY conclave /usr/bin/conclave

FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
# Only the last step links libc statically; what that leaves to the system (names, users) is read from /etc by libc itself.
RUN cargo rustc --locked --release --package cli --bin conclave -- -C target-feature=+crt-static \
    && strip --output-file=/conclave target/release/conclave

FROM runtime
COPY --from=build /conclave /usr/bin/conclave
