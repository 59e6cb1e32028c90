"""The device agent: installs the tasks the control plane wants, runs them on events, sends what they say.

Layers, top to bottom; a row imports rows below it, never above::

    cli, __main__    argument parsing and printing
    app              the supervision tree
    deploy/          learn of an epoch, decide, plan, install, switch, go back
    tasks/           which task runs when, with which grants
    streams/         events, sequences, triggers, collective storage, tunnel
    link/            the conversation with the control plane
    state/           what must survive a crash
    config           one frozen object
"""
