# The server 'sam2rt serve' on CPUs, x86-64 and arm64: see docs/guides/containers.md
FROM python:3.11.14-slim-bookworm

COPY . /src
RUN pip install --no-cache-dir --no-compile -c /src/constraints.txt '/src[cpu,serve]' \
    && rm -rf /src \
    && useradd --create-home --uid 10001 sam2rt

USER 10001
WORKDIR /home/sam2rt
EXPOSE 8765
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", \
    "import urllib.request as u; u.urlopen('http://127.0.0.1:8765/v1/health', timeout=4)"]
ENTRYPOINT ["sam2rt", "serve", "--host", "0.0.0.0", "--port", "8765"]
CMD ["/bundle"]
