/* The way of whole experts: rows to the ranks of their experts, and results
 * home. Every layer goes it unless its plan says another one, so it offers
 * nothing. */
#include "runtime/moe/experts.h"

const moerun__way moerun__way_whole = {
    .name = "whole",
    .exchange = &moerun__exchange_whole,
    .stage = &moerun__stage_whole,
};
