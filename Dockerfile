# The team server. docker build -t larderd .
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags=-s -o /out/ ./cmd/larder ./cmd/larderd && mkdir /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/larder /out/larderd /usr/local/bin/
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
VOLUME /data
EXPOSE 7070
ENTRYPOINT ["/usr/local/bin/larderd"]
CMD ["serve", "-dir", "/data", "-listen", ":7070", "-tokens", "/etc/larder/tokens.toml", "-tls-cert", "/etc/larder/cert.pem", "-tls-key", "/etc/larder/key.pem"]
