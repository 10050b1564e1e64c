# Triton Inference Server with the models of 'sam2rt triton': see docs/guides/containers.md
# CPUs by default; EXTRA=gpu for NVIDIA GPUs, and a BASE that ends in -igpu for Jetson
ARG BASE=nvcr.io/nvidia/tritonserver:24.10-py3
FROM ${BASE}
ARG EXTRA=cpu

# the server's Python backend reads arrays of NumPy 1 alone
COPY . /src
RUN python3 -m pip install --no-cache-dir --no-compile -c /src/docker/triton-constraints.txt \
        "/src[${EXTRA}]" \
    && rm -rf /src \
    && useradd --create-home --uid 10001 sam2rt

USER 10001
WORKDIR /home/sam2rt
EXPOSE 8000 8001 8002
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s CMD ["python3", "-c", \
    "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=4)"]
CMD ["tritonserver", "--model-repository=/models"]
