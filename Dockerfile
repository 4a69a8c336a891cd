# docker build -t jsafe .                                  for the CPU; --build-arg EXTRA=cuda13 for a GPU
# docker run --rm -v "$PWD/runs:/jsafe/runs" jsafe train trpo_lag --env SafetyPointGoal1-v0 --preset jsafe
FROM python:3.13-slim
ARG EXTRA=gymnasium
RUN apt-get update && apt-get install --yes --no-install-recommends libosmesa6 && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN pip install --no-cache-dir "/src[$EXTRA]" && rm -rf /src
WORKDIR /jsafe
ENV JAX_COMPILATION_CACHE_DIR=/jsafe/runs/.cache
ENTRYPOINT ["jsafe"]
