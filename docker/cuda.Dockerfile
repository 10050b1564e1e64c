# The server 'sam2rt serve' on NVIDIA GPUs, with ONNX Runtime: see docs/guides/containers.md
# CUDA and cuDNN come from wheels, of the versions that this ONNX Runtime was built for
FROM python:3.11.14-slim-bookworm

# what the container toolkit gives to the container; without it no driver is there
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

COPY . /src
RUN pip install --no-cache-dir --no-compile -c /src/docker/cuda-constraints.txt \
        -c /src/constraints.txt '/src[gpu,serve]' \
    && rm -rf /src \
    && useradd --create-home --uid 10001 sam2rt

USER 10001
WORKDIR /home/sam2rt
EXPOSE 8765
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s CMD ["python", "-c", \
    "import urllib.request as u; u.urlopen('http://127.0.0.1:8765/v1/health', timeout=4)"]
ENTRYPOINT ["sam2rt", "serve", "--host", "0.0.0.0", "--port", "8765", "--device", "cuda"]
CMD ["/bundle"]
