"""Read the digit scanned during the page visit that just closed."""

from walle_task import events, log, model, params, store, tunnel

SIDE = 8


def run() -> dict[str, object] | None:
    """Find the scan among the visit's events, read it, keep the answer and send it."""
    scan = events.last(event_id="digit_scanned")
    if scan is None:
        return None  # the user left without scanning
    digit, score = read(scan.args["pixels"])
    answer = {"scan_id": scan.args["scan_id"], "digit": digit, "score": score}
    if score < params.get("unsure_below", 0.5):
        log.warning("digit_unsure", scan_id=answer["scan_id"], score=score)
    store.table("reads").put(answer)
    tunnel.send("digit_read", answer)
    return answer


def read(pixels: list[int]) -> tuple[int, float]:
    """Return the likeliest digit and its score, for 64 grey values from 0 to 16, row by row."""
    rows = [pixels[start : start + SIDE] for start in range(0, SIDE * SIDE, SIDE)]
    scores = model.load("digits").run({"image": [[rows]]})["scores"].tolist()[0]
    digit = max(range(len(scores)), key=scores.__getitem__)
    return digit, round(scores[digit], 6)
