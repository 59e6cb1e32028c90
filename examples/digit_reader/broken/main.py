"""Version 1.1.0 as a hurried engineer might ship it: the event's member was never called ``bitmap``.

It passes its simulations, since the engineer recorded the events anew, with a build of the app that nobody
has; it fails on the first real event. The demo releases it to the beta group to show that the control plane
takes it back by itself.
"""

from walle_task import events, model, store, tunnel


def run() -> dict[str, object] | None:
    """Read the digit of the visit; fails with KeyError."""
    scan = events.last(event_id="digit_scanned")
    if scan is None:
        return None
    scores = model.load("digits").run({"image": scan.args["bitmap"]})["scores"].tolist()[0]
    answer = {"scan_id": scan.args["scan_id"], "digit": scores.index(max(scores)), "score": max(scores)}
    store.table("reads").put(answer)
    tunnel.send("digit_read", answer)
    return answer
