# fasttile as a command:
#   docker build -t fasttile .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" fasttile cut map.tif --viewer openseadragon
FROM python:3.13-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev npm && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN python /src/tools/fetch_viewers.py && python -m venv /opt/fasttile \
    && /opt/fasttile/bin/pip install --no-cache-dir "/src[tiff,objects]"

FROM python:3.13-slim
COPY --from=build /opt/fasttile /opt/fasttile
RUN useradd --create-home fasttile
USER fasttile
WORKDIR /data
ENTRYPOINT ["/opt/fasttile/bin/fasttile"]
CMD ["--help"]
