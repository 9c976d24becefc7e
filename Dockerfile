# webhook-server alone in an image without a shell, as a user without rights.
#
#   docker build -t webhook-server --build-arg REVISION=$(git rev-parse HEAD) .
#   docker run -p 8080:8080 -v webhooks:/var/lib/webhook-server -e WEBHOOK_API_KEYS=… webhook-server
#
# It listens on every address of its container, so it refuses to start without API keys. Its SQLite file is in the
# volume; DATABASE_URL names another database.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# Git is not in the build's context: who builds says which revision it is, for `webhook-server --version`.
ARG REVISION=""
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    SOURCE_REVISION="$REVISION" cargo build --locked --profile dist --package webhook-server \
    && install -D target/dist/webhook-server /out/usr/local/bin/webhook-server \
    && install -d /out/var/lib/webhook-server

# The C library of the Debian that it was built on, CA certificates, and nothing else. 65532 is its user `nonroot`.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/usr/local/bin/webhook-server /usr/local/bin/webhook-server
COPY --from=build --chown=65532:65532 /out/var/lib/webhook-server /var/lib/webhook-server
ENV WEBHOOK_LISTEN=0.0.0.0:8080 \
    DATABASE_URL=sqlite:///var/lib/webhook-server/webhooks.db \
    WEBHOOK_LOG_FORMAT=json
WORKDIR /var/lib/webhook-server
VOLUME /var/lib/webhook-server
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 \
    CMD ["/usr/local/bin/webhook-server", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/webhook-server"]
CMD ["serve"]
