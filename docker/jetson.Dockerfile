# The server 'sam2rt serve' on Jetson, JetPack 6.1 (L4T 36.4): see docs/guides/containers.md
FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0
# ONNX Runtime on the CPU; the address of a wheel for JetPack puts it on the GPU
ARG ONNXRUNTIME=onnxruntime==1.23.2

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
COPY . /src
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-pip \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m pip install --no-cache-dir --no-compile -c /src/docker/jetson-constraints.txt \
        "${ONNXRUNTIME}" '/src[serve]' \
    && rm -rf /src \
    && useradd --create-home --uid 10001 --groups video sam2rt

USER 10001
WORKDIR /home/sam2rt
EXPOSE 8765
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s CMD ["python3", "-c", \
    "import urllib.request as u; u.urlopen('http://127.0.0.1:8765/v1/health', timeout=4)"]
ENTRYPOINT ["sam2rt", "serve", "--host", "0.0.0.0", "--port", "8765"]
CMD ["/bundle"]
