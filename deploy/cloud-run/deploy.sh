#!/bin/sh
# Build the image with Cloud Build and run it on Cloud Run: one command, after docs/deploy/cloud-run.md.
#   PROJECT=my-project REGION=europe-west1 deploy/cloud-run/deploy.sh
set -eu
: "${PROJECT:?the id of a Google Cloud project}" "${REGION:=europe-west1}"
root=$(cd "$(dirname "$0")/../.." && pwd)
image="$REGION-docker.pkg.dev/$PROJECT/lookalike/lookalike"

gcloud builds submit "$root" --project "$PROJECT" --config "$root/deploy/cloud-run/cloudbuild.yaml" \
    --substitutions "_IMAGE=$image"
gcloud run deploy lookalike --project "$PROJECT" --region "$REGION" --image "$image" \
    --cpu 2 --memory 2Gi --cpu-boost --concurrency 16 --timeout 600 --min-instances 0 --max-instances 4 \
    --allow-unauthenticated \
    --set-env-vars "WORKER=true,READ_ACCESS=key,FORWARDED_ALLOW_IPS=169.254.0.0/16${MEDIA_URL:+,MEDIA_URL=$MEDIA_URL}" \
    --set-secrets "DATABASE_URL=lookalike-database-url:latest,API_KEYS=lookalike-api-keys:latest"
