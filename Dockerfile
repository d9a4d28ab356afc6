# docker build -t facehal . && docker run --rm -v "$PWD:/work" facehal hallucinate my.jpg --out pictures
# For a CPU. Dockerfile.gpu trains.
FROM python:3.12-slim
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir '.[tensorflow,export,portraits]'
ENV FACEHAL_WEIGHTS=/weights
VOLUME /weights
WORKDIR /work
ENTRYPOINT ["facehal"]
CMD ["--help"]
