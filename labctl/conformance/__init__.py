"""What every driver must do, as tests: ``pytest --pyargs labctl.conformance --driver drivers.x:X``.

The driver is tried on its simulated instrument, over a real socket, with and without faults on the wire. The instrument
is the one that belongs to the driver (``simulated_hw.x`` for ``drivers.x``) unless ``--simulator`` names another; its
module's ``demo(now)`` makes one over plain parts that is switched on and shows a value for every signal (``now`` is the
laboratory's time in seconds; without ``demo`` the class is called without arguments).

With ``--address`` the driver is tried on an instrument there, with nothing but questions: no setting is changed.
"""
