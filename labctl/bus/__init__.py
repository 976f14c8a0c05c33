"""The real-time bus: hub, hosts and clients. The only room that knows zmq (beside instrument transports)."""
