# SPDX-License-Identifier: Apache-2.0
"""The fields of the control messages: proto/overlapd.proto as a table.

The file proto/overlapd.proto is the contract; tests/python/codec.py compares every line of this table with it. A
message is a name; its fields are, by number, a name and a type: a scalar of protobuf, `enum`, or the name of another
message.
"""

MESSAGES: dict[str, dict[int, tuple[str, str]]] = {
    "Request": {
        1: ("id", "uint32"),
        2: ("hello", "Hello"),
        3: ("attach", "Attach"),
        4: ("region_add", "RegionAdd"),
        5: ("region_remove", "RegionRemove"),
        6: ("socket_open", "SocketOpen"),
        7: ("socket_bind", "SocketBind"),
        8: ("socket_listen", "SocketListen"),
        9: ("socket_name", "SocketName"),
        10: ("socket_option_set", "SocketOptionSet"),
        11: ("socket_option_get", "SocketOptionGet"),
        12: ("socket_shutdown", "SocketShutdown"),
        13: ("socket_close", "SocketClose"),
        14: ("port_associate", "PortAssociate"),
        15: ("cancel", "Cancel"),
        16: ("status", "Status"),
        17: ("lane_add", "LaneAdd"),
        18: ("socket_adopt", "SocketAdopt"),
        19: ("socket_export", "SocketExport"),
        20: ("socket_share", "SocketShare"),
        21: ("socket_join", "SocketJoin"),
        22: ("thread_handle_open", "ThreadHandleOpen"),
        23: ("thread_handle_give", "ThreadHandleGive"),
        24: ("thread_handle_close", "ThreadHandleClose"),
        25: ("function_register", "FunctionRegister"),
        26: ("apc_queue", "ApcQueue"),
        27: ("file_add", "FileAdd"),
        28: ("file_remove", "FileRemove"),
        29: ("denied", "Denied"),
    },
    "Reply": {
        1: ("id", "uint32"),
        2: ("status", "sint32"),
        3: ("reason", "uint32"),
        4: ("text", "string"),
        5: ("hello", "HelloReply"),
        6: ("region_add", "RegionAddReply"),
        7: ("socket_open", "SocketOpenReply"),
        8: ("socket_name", "SocketNameReply"),
        9: ("socket_option", "SocketOptionReply"),
        10: ("cancel", "CancelReply"),
        11: ("status_report", "StatusReply"),
        12: ("lane_add", "LaneAddReply"),
        13: ("socket_taken", "SocketTakenReply"),
        14: ("socket_share", "SocketShareReply"),
        15: ("thread_handle", "ThreadHandleReply"),
        16: ("file_add", "FileAddReply"),
    },
    "Notice": {
        1: ("status", "sint32"),
        2: ("reason", "uint32"),
        3: ("text", "string"),
        4: ("closing", "bool"),
    },
    "FromDaemon": {
        1: ("reply", "Reply"),
        2: ("notice", "Notice"),
    },
    "Hello": {
        1: ("version_min", "uint32"),
        2: ("version_max", "uint32"),
        3: ("level", "uint32"),
        4: ("thread", "uint64"),
        5: ("tid", "uint32"),
        6: ("credits", "uint32"),
        7: ("client", "string"),
    },
    "HelloReply": {
        1: ("version", "uint32"),
        2: ("level", "uint32"),
        3: ("session", "fixed64"),
        4: ("secret", "bytes"),
        5: ("credits", "uint32"),
        6: ("regions", "uint32"),
        7: ("region_bytes", "uint64"),
        8: ("sockets", "uint32"),
        9: ("engine", "string"),
        10: ("engine_reason", "string"),
        11: ("inline_bytes", "uint64"),
    },
    "Attach": {
        1: ("session", "fixed64"),
        2: ("secret", "bytes"),
        3: ("thread", "uint64"),
        4: ("port", "uint64"),
        5: ("tid", "uint32"),
    },
    "RegionAdd": {
        1: ("size", "uint64"),
    },
    "RegionAddReply": {
        1: ("region", "uint32"),
    },
    "RegionRemove": {
        1: ("region", "uint32"),
    },
    "FileAdd": {},
    "FileAddReply": {
        1: ("file", "uint32"),
    },
    "FileRemove": {
        1: ("file", "uint32"),
    },
    "LaneAdd": {
        1: ("n_slots", "uint32"),
    },
    "LaneAddReply": {
        1: ("n_records", "uint32"),
    },
    "Address": {
        1: ("family", "enum"),
        2: ("port", "uint32"),
        3: ("scope_id", "uint32"),
        4: ("host", "bytes"),
    },
    "SocketOpen": {
        1: ("family", "enum"),
        2: ("type", "enum"),
        3: ("non_overlapped", "bool"),
    },
    "SocketOpenReply": {
        1: ("socket", "fixed64"),
    },
    "SocketBind": {
        1: ("socket", "fixed64"),
        2: ("address", "Address"),
    },
    "SocketListen": {
        1: ("socket", "fixed64"),
        2: ("backlog", "uint32"),
    },
    "SocketName": {
        1: ("socket", "fixed64"),
        2: ("peer", "bool"),
    },
    "SocketNameReply": {
        1: ("address", "Address"),
    },
    "SocketOptionSet": {
        1: ("socket", "fixed64"),
        2: ("option", "enum"),
        3: ("value", "sint64"),
    },
    "SocketOptionGet": {
        1: ("socket", "fixed64"),
        2: ("option", "enum"),
    },
    "SocketOptionReply": {
        1: ("value", "sint64"),
    },
    "SocketShutdown": {
        1: ("socket", "fixed64"),
        2: ("direction", "enum"),
    },
    "SocketClose": {
        1: ("socket", "fixed64"),
    },
    "SocketAdopt": {},
    "SocketTakenReply": {
        1: ("socket", "fixed64"),
        2: ("family", "enum"),
        3: ("type", "enum"),
        4: ("listens", "bool"),
        5: ("non_overlapped", "bool"),
    },
    "SocketExport": {
        1: ("socket", "fixed64"),
    },
    "SocketShare": {
        1: ("socket", "fixed64"),
        2: ("session", "fixed64"),
    },
    "SocketShareReply": {
        1: ("ticket", "bytes"),
    },
    "SocketJoin": {
        1: ("ticket", "bytes"),
    },
    "PortAssociate": {
        1: ("socket", "fixed64"),
        2: ("port", "uint64"),
        3: ("key", "uint64"),
    },
    "Cancel": {
        1: ("socket", "fixed64"),
        2: ("tag", "fixed64"),
        3: ("thread", "uint64"),
        4: ("all", "bool"),
    },
    "CancelReply": {
        1: ("cancelled", "uint32"),
    },
    "ThreadHandleOpen": {
        1: ("thread", "uint64"),
    },
    "ThreadHandleReply": {
        1: ("handle", "bytes"),
    },
    "ThreadHandleGive": {
        1: ("handle", "bytes"),
        2: ("session", "fixed64"),
    },
    "ThreadHandleClose": {
        1: ("handle", "bytes"),
    },
    "FunctionRegister": {
        1: ("function", "uint64"),
        2: ("remove", "bool"),
    },
    "ApcQueue": {
        1: ("handle", "bytes"),
        2: ("function", "uint64"),
        3: ("argument", "uint64"),
    },
    "Status": {},
    "Denied": {},
    "StatusReply": {
        1: ("engine", "string"),
        2: ("engine_reason", "string"),
        3: ("worker_pid", "uint32"),
        4: ("turns", "uint64"),
        5: ("wakeups", "uint64"),
        6: ("system_calls", "uint64"),
        7: ("entries", "uint64"),
        8: ("records", "uint64"),
        9: ("bytes_received", "uint64"),
        10: ("bytes_sent", "uint64"),
        11: ("sessions", "uint32"),
        12: ("sockets", "uint32"),
        13: ("ops_in_flight", "uint32"),
        14: ("merged_ops", "uint64"),
        15: ("polls", "uint64"),
        16: ("lanes", "uint32"),
    },}
