"""Operators of ``ai.onnx.ml``, brought to those the engine has.

The engine itself has two of this domain, ``TreeEnsemble`` and ``LabelEncoder``; everything else becomes those
and operators of the default domain. ``FORMS`` is the whole list.

Where ONNX leaves open what an operator gives, it gives what ONNX Runtime does: exporters are tested with it.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx

from walle_engine.convert.ml.features import (
    array_feature_extractor,
    binarizer,
    feature_vectorizer,
    imputer,
    normalizer,
    one_hot_encoder,
    scaler,
)
from walle_engine.convert.ml.labels import category_mapper, label_encoder
from walle_engine.convert.ml.linear import linear_classifier, linear_regressor
from walle_engine.convert.ml.making import Making
from walle_engine.convert.ml.svm import svm_classifier, svm_regressor
from walle_engine.convert.ml.trees import tree_classifier, tree_ensemble, tree_regressor
from walle_engine.convert.scopes import Scope

DOMAIN = "ai.onnx.ml"

# The newest version of the domain; what the forms give is of this version.
VERSION = 5

FORMS: dict[str, Callable[[Making], None]] = {
    "ArrayFeatureExtractor": array_feature_extractor,
    "Binarizer": binarizer,
    "CategoryMapper": category_mapper,
    "FeatureVectorizer": feature_vectorizer,
    "Imputer": imputer,
    "LabelEncoder": label_encoder,
    "LinearClassifier": linear_classifier,
    "LinearRegressor": linear_regressor,
    "Normalizer": normalizer,
    "OneHotEncoder": one_hot_encoder,
    "SVMClassifier": svm_classifier,
    "SVMRegressor": svm_regressor,
    "Scaler": scaler,
    "TreeEnsemble": tree_ensemble,
    "TreeEnsembleClassifier": tree_classifier,
    "TreeEnsembleRegressor": tree_regressor,
}


def in_our_form(node: onnx.NodeProto, scope: Scope) -> list[onnx.NodeProto]:
    """Return the nodes that stand for one; the node itself where there is no form for it.

    Raises:
        ModelError: if its attributes contradict each other.
        UnsupportedError: if it is used in a way that has no form.
    """
    form = FORMS.get(node.op_type)
    if form is None or node.domain != DOMAIN:
        return [node]
    making = Making(node, scope)
    form(making)
    return making.nodes
