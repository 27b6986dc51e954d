"""The project that experts see, as Label Studio takes it: its labelling interface in XML, and each task. All pure.

Whatever a use case declares and whoever wrote a request, it is shown as it is: nothing in it becomes a tag or a
variable. The model's answer is shown and is not filled in: an expert who has only to confirm agrees too easily.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import quoteattr

from ninefold.labelling.answers import CONTROL, TASK_FIELD
from ninefold.labels import LabellingInterface, LabelTask
from ninefold.records import Prediction
from ninefold.usecase import UseCase

_TITLE = 50
"""Characters of a project's title in Label Studio."""
_UNKNOWN = "not known"
_NO_VARIABLE = "$\N{ZERO WIDTH NON-JOINER}"


def project_title(use_case: UseCase) -> str:
    """The project's title, which it is found by when somebody edited its description."""
    return f"Ninefold: {use_case.name}"[:_TITLE]


def project_mark(use_case: UseCase) -> str:
    """What stands in the project's description, which it is found by when somebody edited its title."""
    return f"[ninefold:{use_case.name}]"


def project(use_case: UseCase, interface: LabellingInterface) -> dict[str, Any]:
    """The project's settings, as Label Studio's API takes them.

    Args:
        use_case: Names it.
        interface: What experts see and may answer.
    """
    return {
        "title": project_title(use_case),
        "description": f"{use_case.title} {project_mark(use_case)}",
        "label_config": label_config(use_case, interface),
        "expert_instruction": interface.instructions,
        "show_instruction": bool(interface.instructions),
        "show_skip_button": True,
        "enable_empty_annotation": False,
        "maximum_annotations": interface.annotators,
        # Else the newest prediction is filled in as if the expert had said it.
        "show_collab_predictions": False,
    }


def label_config(use_case: UseCase, interface: LabellingInterface) -> str:
    """The labelling interface in Label Studio's XML.

    Args:
        use_case: Declares the kinds of what is shown.
        interface: What experts see and may answer.
    """
    texts, facts = _shown(use_case, interface)
    parts = [_tag("Header", value=_literal(interface.title), size="4")]
    for name in texts:
        if len(texts) > 1 or facts:
            parts.append(_tag("Header", value=_literal(_words(name)), size="6"))
        parts.append(_tag("Text", name=f"shown_{name}", value=f"$shown_{name}", valueType="text"))
    if facts:
        parts.append(_tag("Table", name="facts", value="$facts"))
    parts.append(_tag("Header", value=_literal(interface.question), size="5"))
    target = f"shown_{texts[0]}" if texts else "facts"
    if interface.choices:
        choices = "".join(f"\n    {_tag('Choice', value=label)}" for label in interface.choices)
        opening = _tag("Choices", name=CONTROL, toName=target, choice="single-radio", required="true")
        parts.append(f"{opening.removesuffix('/>')}>{choices}\n  </Choices>")
    else:
        low, high = f"{interface.minimum:g}", f"{interface.maximum:g}"
        parts.append(_tag("Number", name=CONTROL, toName=target, min=low, max=high, required="true"))
    parts += [_tag("Header", value="$why", size="6"), _tag("Header", value="$model", size="6")]
    return "<View>\n  " + "\n  ".join(parts) + "\n</View>"


def task_document(
    use_case: UseCase, interface: LabellingInterface, task: LabelTask, prediction: Prediction
) -> dict[str, Any]:
    """A task as Label Studio imports it: what is shown, why it was picked, and what the model answered.

    Args:
        use_case: Declares the kinds of what is shown.
        interface: What experts see and may answer.
        task: The task.
        prediction: What was asked, and answered.
    """
    texts, facts = _shown(use_case, interface)
    values = {**prediction.features, **prediction.request}
    data: dict[str, Any] = {
        TASK_FIELD: task.task_id,
        "key": task.key,
        "sampler": task.sampler,
        "batch": task.batch,
        "why": f"Why this one: {task.reason}",
        "model": _answered(use_case, interface, prediction),
    }
    data |= {f"shown_{name}": _text(values.get(name)) for name in texts}
    if facts:
        data["facts"] = {label: _text(values.get(name)) for name, label in facts.items()}
    return {"data": data, "predictions": _predictions(use_case, interface, prediction)}


def _shown(use_case: UseCase, interface: LabellingInterface) -> tuple[list[str], dict[str, str]]:
    """What stands for itself: texts; and what stands in a table: name → its words and unit."""
    columns = {f"{view.name}__{column.name}": column for view in use_case.batch_views for column in view.columns}
    declared = columns | use_case.fields
    texts = [name for name in interface.show if name in declared and declared[name].kind == "text"]
    facts = {
        name: _words(name) + (f" ({unit})" if (unit := getattr(declared.get(name), "unit", None)) else "")
        for name in interface.show
        if name not in texts
    }
    return texts, facts


def _words(name: str) -> str:
    return name.replace("__", ": ").replace("_", " ")


def _text(value: Any) -> str:
    if value is None or value == "":
        return _UNKNOWN if value is None else "(empty)"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _answered(use_case: UseCase, interface: LabellingInterface, prediction: Prediction) -> str:
    """What the model said, as a sentence."""
    who = "The baseline" if prediction.version == 0 or prediction.fallback else f"Version {prediction.version}"
    if use_case.problem == "binary":
        label, probability = _likelier(interface, prediction.value)
        return f"{who} answered: {label}, with a probability of {probability:.2f}."
    unit = f" {use_case.target.unit}" if use_case.target.unit else ""
    return f"{who} answered: {prediction.value:.4g}{unit}."


def _likelier(interface: LabellingInterface, probability: float) -> tuple[str, float]:
    """The likelier class of two, and how probable it is."""
    value = 1.0 if probability >= 0.5 else 0.0
    return interface.label_of(value) or f"{value:g}", probability if value else 1.0 - probability


def _predictions(use_case: UseCase, interface: LabellingInterface, prediction: Prediction) -> list[Mapping[str, Any]]:
    """The answer as Label Studio's own kind of prediction, for its Data Manager; none that can't be an answer."""
    texts, _ = _shown(use_case, interface)
    part: dict[str, Any] = {"from_name": CONTROL, "to_name": f"shown_{texts[0]}" if texts else "facts"}
    score = None
    if interface.choices:
        if use_case.problem == "binary":
            label, score = _likelier(interface, prediction.value)
        else:
            label = min(interface.choices, key=lambda one: abs(interface.choices[one] - prediction.value))
        part |= {"type": "choices", "value": {"choices": [label]}}
    elif interface.value_of(prediction.value) is not None:
        part |= {"type": "number", "value": {"number": prediction.value}}
    else:
        return []
    version = f"{use_case.name}-v{0 if prediction.fallback else prediction.version}"
    return [{"model_version": version, "result": [part], **({} if score is None else {"score": score})}]


def _literal(text: str) -> str:
    """A text in which Label Studio finds no ``$variable``."""
    return text.replace("$", _NO_VARIABLE)


def _tag(tag: str, /, **attributes: str) -> str:
    written = " ".join(f"{key}={quoteattr(_printable(value))}" for key, value in attributes.items())
    return f"<{tag} {written}/>"


def _printable(text: str) -> str:
    """Without what no XML may hold."""
    return "".join(letter for letter in text if letter in "\t\n\r" or (letter >= " " and letter not in "\ufffe\uffff"))
