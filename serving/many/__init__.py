"""Many clips, each tracked by one of many workers: processes of this machine or a cluster's;
imports runtime and what lies below it, and Ray only when a cluster is named.
"""
