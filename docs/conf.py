"""Settings of the documentation build."""

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

import wshub_core

project = "wshub"
author = "The wshub authors"
copyright = "The wshub authors, EUPL-1.2"  # noqa: A001 - Sphinx's name
version = release = wshub_core.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "examples"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"wshub {release}"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
add_module_names = False
default_role = "py:obj"

# Types of the standard library, of msgspec and of redis-py have no page here.
nitpick_ignore_regex = [
    ("py:class", r"(_asyncio|abc|collections|contextlib|contextvars|datetime|enum|logging)\..*"),
    ("py:class", r"(msgspec|os|pathlib|redis|socket|ssl)\..*"),
    # type variables
    ("py:(class|obj)", r"wshub_redis\.publish_methods\.ResultT"),
    ("py:class", r"wshub_core\.values\.channel_patterns\.T"),
    ("py:class", r"wshub_core\.process\.runner\.ProcessPublisher"),  # what a hub is to the runner
    ("py:class", r"wshub_core\.testing\.history_.*"),  # the parts of the contract
    ("py:class", r"wshub_core\.loop\.clock\.Clock"),  # an event loop, or a ManualClock
    ("py:class", r"Collector|MeterProvider"),  # of prometheus-client and of OpenTelemetry
    ("py:class", r"HubApp|HealthApp|wshub_core\.page\.app\.LivePageApp"),  # ASGI applications
    ("py:class", r".*(RunningHub|HubChannels|HubMonitoring|HubOperation)"),  # internal
]


def unlink_builtins(app: Sphinx, doctree: nodes.document) -> None:
    """Replace links to built-in types by their text.

    Sphinx would link each `bytes` in a signature to an attribute of this name.
    """
    for node in tuple(doctree.findall(pending_xref)):
        if node["reftarget"] == "bytes":
            node.replace_self(node.children)


def setup(app: Sphinx) -> None:
    """Connect the handlers of this build."""
    app.connect("doctree-read", unlink_builtins)
