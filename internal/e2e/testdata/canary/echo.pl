#!/usr/bin/perl
print "perl $ENV{K}\n";
