"""The trio shell of the broker: sockets, threads, files, clocks and signals; no rules.

One task, the *reactor*, holds every client socket in a private epoll and calls the pure node with
what arrived; worker threads run the jobs that the store hands out. What to do is decided in `node`;
this part only carries it out, and stops the process when the disk fails.
"""
