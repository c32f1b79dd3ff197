"""The documentation site: ``uv run --group docs sphinx-build -W docs site``.

The guides are the pages that the repository shows. ``api/`` is generated from docstrings, with the
libraries of the environment; nothing is fetched, neither by the build nor by the pages.
"""

from docutils.nodes import Element, SkipNode, math_block
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

import mmdla

project = 'mmdla'
author = 'The mmdla authors'
copyright = author
release = version = mmdla.__version__

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx_copybutton']
exclude_patterns = ['README.md']  # `index.md` includes it
html_theme = 'furo'
html_title = f'mmdla {release}'
html_static_path = ['_static']
html_css_files = ['site.css']
html_show_sourcelink = False
html_math_renderer = 'mathml'

myst_heading_anchors = 3
autodoc_member_order = 'bysource'
autodoc_typehints = 'none'  # the docstrings name the types
autodoc_preserve_defaults = True
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_use_admonition_for_examples = False
copybutton_prompt_text = r'>>> |\.\.\. |\$ '
copybutton_prompt_is_regexp = True


def mathml(writer: HTML5Translator, node: Element) -> None:
    """A formula, which browsers draw by themselves; Sphinx's own renderers need scripts or LaTeX."""
    display = 'block' if isinstance(node, math_block) else 'inline'
    for formula in filter(str.strip, node.astext().split('\n\n')):
        writer.body.append(convert(formula, display=display))
    raise SkipNode


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer('mathml', (mathml, None), (mathml, None))
