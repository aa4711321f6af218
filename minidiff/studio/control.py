"""What may be asked of a drawing: pause, one step, go on, cancel, branch, look inside.

Each of these functions is a call to the engine (`Engine.call`): it runs between two steps.  What is refused changes
nothing.
"""

from minidiff.studio.drawing import ENDED, Drawing, Node
from minidiff.studio.engine import Conflict, Engine

MAX_NODES = 200  # branches of a drawing


def pause(engine: Engine, drawing: Drawing) -> None:
    """Stop a drawing at its next step; `resume` goes on."""
    _check(drawing)
    if drawing not in engine.waiting:
        raise Conflict(f"a drawing that is {drawing.state} cannot be paused")
    engine.leave(drawing, "paused")


def cancel(engine: Engine, drawing: Drawing) -> None:
    """Stop a drawing; the steps that are drawn stay."""
    if drawing.active.saving:
        raise Conflict("the drawing is finished, and its images are being saved")
    if drawing.state in ENDED:
        raise Conflict(f"a drawing that is {drawing.state} cannot be cancelled")
    engine.leave(drawing, "cancelled")


def resume(engine: Engine, drawing: Drawing, node: Node, budget: int | None = None) -> None:
    """Go on with a node of a drawing, from its last step.  budget: for so many steps, None to the end.

    Of a finished one whose images could not be saved, they are saved now.
    """
    _check(drawing)
    if drawing in engine.waiting:
        raise Conflict(f"a drawing that is {drawing.state} cannot be resumed")
    if node.images is not None and not node.pictures and drawing.save:
        drawing.active = node
        engine.set(drawing, "running")
        engine.save(drawing, node)
        return
    if node.of and node.done >= node.of:
        raise Conflict("all steps are drawn already; branch from an earlier one")
    engine.check_queue()
    drawing.active = node
    engine.enqueue(drawing, budget)


def branch(engine: Engine, drawing: Drawing, node: Node, paused: bool = False) -> None:
    """Add a node, which leaves its parent at some step, to a drawing, and draw it."""
    _check(drawing)
    if len(drawing.nodes) >= MAX_NODES:
        raise Conflict(f"a drawing may have up to {MAX_NODES} branches")
    if drawing in engine.waiting:
        engine.leave(drawing, "paused")
    engine.check_queue()
    node.inherit()
    drawing.nodes.append(node)
    drawing.active = node
    if paused:
        engine.set(drawing, "paused")
    else:
        engine.enqueue(drawing)


def look_inside(engine: Engine, drawing: Drawing, on: bool) -> None:
    """Record the network's outputs from now on.  What was drawn without is drawn again, once; no image changes."""
    _check(drawing)
    node = drawing.active
    if drawing not in engine.waiting and on and len(node.frames) < node.done:
        engine.check_queue()
        drawing.inside = True
        engine.enqueue(drawing, rest=drawing.state)
        return
    drawing.inside = on
    if drawing.rest is not None and not on:
        engine.leave(drawing, "paused")
        return
    if drawing in engine.waiting:
        drawing.end()  # it begins again, with a recording or without
    engine.set(drawing, drawing.state)


def _check(drawing: Drawing) -> None:
    """Raise Conflict for a drawing of another program, which waits for its end, and for one that is being saved."""
    if not drawing.keep:
        raise Conflict("another program waits for this drawing, which keeps no steps")
    if drawing.active.saving:
        raise Conflict("the drawing is finished, and its images are being saved")
