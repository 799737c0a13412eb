"""What the data plane says: the `observer` polls gateways and coordinators, a `view` is what it made of one service.

`measured` turns the histograms that come with it into percentiles. It is asked for beside the API server's word, and
is to be had while the API server is away.
"""
