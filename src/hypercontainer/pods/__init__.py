"""Pods: what users ask for, what is stored of it, and its life from create to remove."""
