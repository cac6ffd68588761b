join = heartbeat = leave = commit = seek = list_groups = describe = delete = None
