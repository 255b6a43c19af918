"""What to cite: the articles and papers behind a subject or a method, as BibTeX (the entries are in references.bib)."""

import functools
import re
from importlib.resources import files

from jaxkit.core import arguments

# Subject or method -> keys of references.bib.
TOPICS = {
    "competition": ("su3120", "gause1934"),
    "newton": ("sunewton",),
    "recurrent": ("su5643", "lim2024"),
    "gravity": ("su113", "horava2009", "lu2009", "kehagias2009"),
    "reading": ("su5409", "su6906", "li2016", "cui2019"),
    "gan": ("su6110", "jolicoeur2019", "mescheder2018", "huang2024"),
    "energy": ("su6316", "su6331", "su6612", "kumar2019", "du2019", "roberts1996", "neal2001"),
    "score": ("su7038", "vincent2011", "bigdeli2020", "li2019", "song2021", "karras2022"),
    "solve": ("kidger2021",),
    "ensemble": ("jorba2005", "biscani2021"),
    "taylor": ("jorba2005", "biscani2021"),
    "tsit5": ("tsitouras2011", "kidger2021"),
    "dopri5": ("dormand1980", "kidger2021"),
    "dopri8": ("prince1981", "hairer1993", "kidger2021"),
    "rodas5p": ("steinebach2023", "hairer1996"),
    "auto": ("tsitouras2011", "steinebach2023", "petzold1983"),
    "kvaerno5": ("kvaerno2004", "hairer1996", "kidger2021"),
}


@functools.cache
def references() -> dict[str, str]:
    """Every entry of references.bib: key -> BibTeX."""
    text = (files("jaxkit.core") / "references.bib").read_text(encoding="utf-8")
    entries = re.findall(r"^(@\w+\{(\w+),.*\})$", text, flags=re.M)
    return {key: entry for entry, key in entries}


def cite(*topics: str) -> str:
    """BibTeX of the articles and papers behind subjects or methods.

    Args:
        topics: Names such as `"competition"`, `"gan"`, `"ensemble"`, `"dopri8"`; none asks for everything.

    Returns:
        The entries, each once, one on each line.

    Raises:
        ValueError: There is no such topic.

    Example:
        >>> import jaxkit as jk
        >>> print(jk.cite("tsit5").splitlines()[1])
        @phdthesis{kidger2021, author = {Kidger, Patrick}, title = {On Neural Differential Equations}, \
school = {University of Oxford}, year = {2021}}
    """
    for topic in topics:
        arguments.one_of("topic", topic, TOPICS)
    keys = dict.fromkeys(key for topic in topics or TOPICS for key in TOPICS[topic])
    return "\n".join(references()[key] for key in keys)
