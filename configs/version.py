"""The version of sam2rt: the only place where it stands."""

VERSION = "0.1.0"
