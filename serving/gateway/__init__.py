"""Envoy between those who ask and the model servers: its files made from a route table, its process run."""
