"""The ML backend that Label Studio asks: label_studio_backend.py BUNDLE [PORT]

Set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY first, so that it may fetch what is labelled.
"""

import sys

from label_studio_ml.api import init_app

from sam2rt.serving.labelling.label_studio import backend_class


def main(bundle: str, port: str = "9090") -> None:
    app = init_app(backend_class(bundle))
    # the model has one thread of its own, however many requests wait
    app.run(host="127.0.0.1", port=int(port), threaded=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
