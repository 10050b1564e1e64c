"""Sphinx's settings. ``make docs`` runs it on a copy of the pages, see make_site.py."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "sam2rt"
author = "the sam2rt authors"
copyright = "the sam2rt authors, Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence"]
#: as GitHub makes them, so that links work in both
myst_heading_anchors = 4
# the public classes and functions say what their arguments are in words
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_type_aliases: dict[str, str] = {}
add_module_names = False
default_role = "code"
html_theme = "furo"
html_title = "sam2rt"
#: nothing but the pages themselves: no trackers, no fonts, no link to where they came from
html_show_sourcelink = False
html_copy_source = False
html_static_path: list[str] = []

if "SAM2RT_DOXYGEN" in os.environ:
    extensions.append("breathe")
    breathe_projects = {"sam2rt": os.environ["SAM2RT_DOXYGEN"]}
    breathe_default_project = "sam2rt"
    breathe_show_include = False
    # annotations for linkers are no part of a declaration
    cpp_id_attributes = ["SAM2RT_API", "SAM2RT_HIDDEN"]
    c_id_attributes = ["SAM2RT_API"]
if "SAM2RT_DOT" in os.environ:
    extensions.append("sphinx.ext.graphviz")
    graphviz_output_format = "svg"
