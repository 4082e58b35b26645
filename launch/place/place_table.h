/* What `moerun place` says of a placement, for people and as JSON. */
#ifndef MOERUN_PLACE_PLACE_TABLE_H
#define MOERUN_PLACE_PLACE_TABLE_H

#include "launch/place/place_slack.h"
#include "placement/map/certificate.h"
#include "placement/trace/trace.h"
#include "runtime/base/text.h"

#include <stdio.h>

/* Of "moerun-place", which --json writes, with a trace or with loads alone. */
enum { MOERUN_PLACE_VERSION = 1 };

typedef struct moerun__place_facts {
  const char *trace_name;
  const moerun__trace *trace;        /* all of it                             */
  const moerun__trace *train;        /* part trained on                       */
  const moerun__trace *held_out;     /* NULL: none                            */
  const moerun_placement *placement; /* with certificate                      */
  int is_uneven; /* ranks differ in speed                                   */
  int is_solved; /* 0: the placement was given, nothing is certified         */
  int breaks_caps; /* or counts of experts: no bound is of such a placement */
  int has_homes;   /* the trace was recorded on as many ranks as the placement
                     has, and says which sequence ran where                   */
  int64_t copy_bytes; /* of a row on the wire; 0: the model is not known    */
  int64_t result_bytes;
  moerun__judgement before_at_home; /* of the whole trace, with those homes   */
  moerun__judgement after_at_home;
  const char *compared_name; /* of another placement; NULL: none              */
  moerun__judgement compared[MOERUN_NUM_HALVES];
  moerun__judgement compared_at_home;
  moerun__place_slack wider; /* what a larger slack would buy */
  int has_even; /* there are replicas, and GLPK to split their tokens */
  double even_load[MOERUN_NUM_HALVES]; /* rank load max/mean by that split    */
  double even_worst[MOERUN_NUM_HALVES];
} moerun__place_facts;

void moerun__place_print(FILE *stream, const moerun__place_facts *facts);
moerun_status moerun__place_json(moerun__text *out,
                                 const moerun__place_facts *facts);

/* The methods there are. */
void moerun__place_print_methods(FILE *stream);

#endif
