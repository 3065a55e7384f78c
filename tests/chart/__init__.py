"""The judges of the Helm chart: Helm itself, Kubernetes' schemas, and the rules that the pipeline adds to them."""
